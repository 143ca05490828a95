"""The second backbone: DINOv3 as an encoder of RDS, its label propagation, and the tracker that users build."""
