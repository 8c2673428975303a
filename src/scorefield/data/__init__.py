"""Images in, images out: files of any kind become uint8 tensors, and tensors become images."""
