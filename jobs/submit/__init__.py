"""Jobs on a Ray cluster: sent there, watched and stopped from here."""
