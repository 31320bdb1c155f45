"""Training of the tiny Florence-2 of the demonstration and the tests, from random weights."""
