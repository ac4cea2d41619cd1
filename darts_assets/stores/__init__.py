"""Object store access: opening, atomic publish, preflight of conditional writes."""
