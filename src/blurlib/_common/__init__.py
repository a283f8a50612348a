"""What every run needs: keyed random numbers, processes, devices, files, provenance, checks."""
