server           = true
bootstrap_expect = ${bootstrap_expect}

# The default is for the smallest machines: it finds a new leader five times later.
performance {
  raft_multiplier = 1
}
