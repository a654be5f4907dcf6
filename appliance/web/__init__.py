"""The HTTP server: routes of students and educators, the pages, and the security rules."""
