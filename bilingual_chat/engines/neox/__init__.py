"""GPT-NeoX on torch, on CUDA graphs, and on the kernels of this package."""
