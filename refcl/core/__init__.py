"""What everything stands on: arrays, arguments, and a forward with its backward."""
