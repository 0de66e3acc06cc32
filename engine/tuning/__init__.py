"""``fewstep.tune``: the best plan for a model at a number of network calls. One stage a file."""
