"""Trains, from nothing, the tiny Florence-2 that the demonstration and the tests use."""
