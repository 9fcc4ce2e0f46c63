"""The engine: text and constraints in, tokens and text out, around the scheduler and the executor."""
