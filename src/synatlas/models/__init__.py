"""The only room that knows architectures: loading, units, taps."""
