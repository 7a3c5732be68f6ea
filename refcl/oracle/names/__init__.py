"""From a measured difference to words: the catalogue of mistakes, and what a difference looks like."""
