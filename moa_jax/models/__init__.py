"""Networks as Flax modules: functions of (variables, inputs, mask, train), free of data."""
