"""The reducers that come with the appliance. Each is an ordinary plug-in: it imports `appliance.reducer` alone."""
