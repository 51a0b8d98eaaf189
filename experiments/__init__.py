"""Scripts with absl flags, one a step; each is only flags and one call into the library."""
