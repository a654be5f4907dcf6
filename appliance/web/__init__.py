"""The web room: students' and educators' routes, the pages, and the rules that keep both safe."""
