"""What histojax is compared with, results and time: the same work in PyTorch, Keras and NumPy.

None of it is our code. A module of encoders has `descriptor(name, variables, precision, crops)`: it
returns a function without arguments that takes the crops, uint8 [N, H, W, 3], from where they lie
on the device to the descriptors, float32 [N, D], on the host.
"""
