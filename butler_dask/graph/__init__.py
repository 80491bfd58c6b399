"""Quantum graphs: columns and edges inside, quanta outside."""
