"""How a study becomes jobs: what is missing, processes on this machine, and how the runs stand."""
