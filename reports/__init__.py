"""How results become a page: charts, sections and templates, rendered last into one self-contained HTML file."""
