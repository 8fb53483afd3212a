from made_data import made

__all__ = ["made"]
