"""Other programs: the diffusers scheduler and k-diffusion style functions, each imported only when
asked for."""
