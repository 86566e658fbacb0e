"""What the doctor, `gc` and `sync` find and fix."""
