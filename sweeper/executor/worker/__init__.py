"""What runs on a trial's machine, in Ray's actor and beside it."""
