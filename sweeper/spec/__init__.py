"""The sweep file: read, validate, resolve. Imports nothing slow."""
