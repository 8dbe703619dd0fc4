"""Downloads from the model hub. The only room that knows huggingface_hub and HTTP."""
