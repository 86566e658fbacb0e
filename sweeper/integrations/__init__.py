"""One line for scripts that train with Lightning or with Hugging Face's Trainer. Nothing here imports the other."""
