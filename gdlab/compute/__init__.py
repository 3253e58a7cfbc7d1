"""Support for compiled programs: devices, threads, program caches, and vector programs rewritten as scalar ones."""
