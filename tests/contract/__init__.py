"""What every backend of an interface must do. A backend's tests subclass a suite and say how to open the backend."""
