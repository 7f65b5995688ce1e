"""The process in each model container: loads one bundle, then answers batches of inputs that query frontends send.

    __main__   config    process      the process; its settings
    server                            its life: load → warm up → serve → drain → stop
    loader     predict   outputs      the model: bundle → function, batch → results or errors, results → bytes
    serving    link      dealer       the loop; a link to one frontend as a state machine (pure); the only ZeroMQ file
    hang       metrics   exporter     what watches it, and what others see of it
    stopping
    rpc        clipper_forms          what container classes that were written for Clipper import, and what they expect
    clipper_admin_names               what predict functions that were written for Clipper import

One thread does all work: it polls the links, calls the model and sends the result. It reaches the network only through
dealer.py and exporter.py, and nothing but loader.py unpickles. Runs from plain files: see docs/architecture.md.
"""
