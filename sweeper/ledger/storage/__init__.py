"""Where the records of a ledger are kept: in a journal file, or in a database that may be away for a while."""
