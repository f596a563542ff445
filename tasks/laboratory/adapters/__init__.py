"""Programs that answer the laboratory's cases, one for each library."""
