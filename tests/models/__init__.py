"""One small model for each way to fail, and a few good ones; each file has `predict` and says what it does.

    good                 echo_sum  identity  tagged  slow  prints  mutates
    odd but good         float32_outputs  nan_outputs  big_ints
    fails, stays         raises  wrong_count  wrong_types  exits_politely  out_of_memory
    fails while loading  exits_on_load  raises_on_load  needs_missing_module
    ends its process     exits  segfaults  poison
    never comes back     hangs  hangs_in_c

process/bundles.py packs them.
"""
