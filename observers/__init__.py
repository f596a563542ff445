"""Who watches: the journal, status links, progress, the Prefect reporter."""
