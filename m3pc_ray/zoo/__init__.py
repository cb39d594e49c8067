"""Trained runs in a folder, an object store or a Hugging Face repository: `m3pc push` and `m3pc pull`."""
