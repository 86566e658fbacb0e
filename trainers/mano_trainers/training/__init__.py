"""A training as parts: what makes its batches, losses and validation, and the faults that replace one of them."""
