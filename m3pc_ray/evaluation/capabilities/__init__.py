"""One set of weights, judged in every role it can be asked to play, against plain baselines."""
