"""Lets the cyclic garbage collector see what an engine holds: done by importing it."""
