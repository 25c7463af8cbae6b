"""TODO .ci"""
