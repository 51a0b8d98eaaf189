"""The items of histojax accelerator: what each measures, and what is made of the figures."""
