"""The course's tables, each made by one command: all search strategies, and the paper's systems in miniature."""
