"""The reducers that come with the appliance. Each is a plug-in like any other: it uses `appliance.reducer` alone."""
