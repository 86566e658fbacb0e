"""What is not valid in a sweep file, with its place and how to fix it."""
