"""What the appliance does on a desktop. Nothing outside this room needs it, so that a server runs without."""
