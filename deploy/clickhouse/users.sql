-- A user for each part, with its role from roles.sql. Replace the passwords, and limit the addresses (HOST IP '10.0.0.0/8').

CREATE USER IF NOT EXISTS `meterfold-migrate` IDENTIFIED WITH sha256_password BY 'replace this password'
    DEFAULT ROLE meterfold_migrate;
GRANT meterfold_migrate TO `meterfold-migrate`;

CREATE USER IF NOT EXISTS `meterfold-fold` IDENTIFIED WITH sha256_password BY 'replace this password'
    DEFAULT ROLE meterfold_fold;
GRANT meterfold_fold TO `meterfold-fold`;

CREATE USER IF NOT EXISTS `meterfold-check` IDENTIFIED WITH sha256_password BY 'replace this password'
    DEFAULT ROLE meterfold_check;
GRANT meterfold_check TO `meterfold-check`;

CREATE USER IF NOT EXISTS `meterfold-notify` IDENTIFIED WITH sha256_password BY 'replace this password'
    DEFAULT ROLE meterfold_notify;
GRANT meterfold_notify TO `meterfold-notify`;

CREATE USER IF NOT EXISTS `meterfold-service` IDENTIFIED WITH sha256_password BY 'replace this password'
    DEFAULT ROLE meterfold_service;
GRANT meterfold_service TO `meterfold-service`;

CREATE USER IF NOT EXISTS `meterfold-serve` IDENTIFIED WITH sha256_password BY 'replace this password'
    DEFAULT ROLE meterfold_serve;
GRANT meterfold_serve TO `meterfold-serve`;

CREATE USER IF NOT EXISTS `meterfold-redrive` IDENTIFIED WITH sha256_password BY 'replace this password'
    DEFAULT ROLE meterfold_redrive;
GRANT meterfold_redrive TO `meterfold-redrive`;

CREATE USER IF NOT EXISTS `meterfold-verify` IDENTIFIED WITH sha256_password BY 'replace this password'
    DEFAULT ROLE meterfold_verify;
GRANT meterfold_verify TO `meterfold-verify`;

CREATE USER IF NOT EXISTS `meterfold-backup` IDENTIFIED WITH sha256_password BY 'replace this password'
    DEFAULT ROLE meterfold_backup;
GRANT meterfold_backup TO `meterfold-backup`;

CREATE USER IF NOT EXISTS `meterfold-read` IDENTIFIED WITH sha256_password BY 'replace this password'
    DEFAULT ROLE meterfold_read_all;
GRANT meterfold_read_all TO `meterfold-read`;
