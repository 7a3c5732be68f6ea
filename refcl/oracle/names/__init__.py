"""From a measured difference to words: what a difference looks like, and what is said of each."""
