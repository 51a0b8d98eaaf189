"""What people read: pages, figures, tables and text of an evaluation, a comparison or an inspection."""
