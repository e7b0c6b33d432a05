"""The folder that compare_models.py adds to nnUNet_extTrainer: nnU-Net imports every file in it."""
