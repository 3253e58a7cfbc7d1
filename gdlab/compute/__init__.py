"""What every compiled program needs: devices, threads, kept programs, and the rewriting of vectors as scalars."""
