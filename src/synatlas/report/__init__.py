"""Stage 5: artifacts become figures and one offline HTML file."""
