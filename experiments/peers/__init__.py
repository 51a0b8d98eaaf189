"""What histojax is held and timed against: the same work in PyTorch, in Keras and in NumPy, none of it in our code.

A module of encoders gives `descriptor(name, variables, precision, crops)`: a function without arguments that takes the
crops, uint8 [N, H, W, 3], from where they lie on the device to the descriptors, float32 [N, D], on the host.
"""
