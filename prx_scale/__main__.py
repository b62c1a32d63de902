"""`python -m prx_scale`, for launchers that start modules, such as torchrun."""

from prx_scale.cli import main

if __name__ == "__main__":
    main()
