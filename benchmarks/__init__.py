"""The project's own load and comparison suite: `python -m benchmarks.figures`. README.md says what is where."""
