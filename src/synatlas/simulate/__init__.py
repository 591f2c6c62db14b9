"""Series whose truth is known: what scores, nulls and calls are measured against."""
